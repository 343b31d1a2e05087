"""What an admin sets up, as YAML files: ``manage.py configure`` makes the database equal to them, and writes them.

``kinds`` says what can be described; each app registers its own in a module ``configured``. ``reading`` knows YAML,
``given`` what a value has to be, ``rows`` what is stored, ``applying`` and ``exporting`` the two directions. What is
right is judged by the admin's forms, and saved and audited by the admin's own code.
"""
