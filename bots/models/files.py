"""MessageFile: what was read from a file that came with a message, kept so that it is fetched and read once."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bots.models.conversation import Message


class MessageFile(models.Model):
    """``position`` is the file's place among those of its message. One of text, image and problem is set.

    ``image`` is made small enough for a model, and forgotten after a while: the name stays.
    """

    class Kind(models.TextChoices):
        IMAGE = "image", _("image")
        DOCUMENT = "document", _("document")

    message = models.ForeignKey(Message, models.CASCADE, related_name="files", verbose_name=_("message"))
    position = models.PositiveSmallIntegerField(_("position"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=200, blank=True)
    text = models.TextField(_("text"), blank=True)
    image = models.BinaryField(null=True)
    problem = models.CharField(_("problem"), max_length=40, blank=True)
    created_at = models.DateTimeField(_("read"), auto_now_add=True)

    class Meta:
        verbose_name, verbose_name_plural = _("file"), _("files")
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["message", "position"], name="one_file_per_position")]
        indexes = [models.Index(fields=["created_at"], condition=models.Q(image__isnull=False), name="image_to_forget")]

    def __str__(self) -> str:
        return self.name or str(self.get_kind_display())
