"""What the product is compared with, each as small as it can be, on the same servers and in the same run."""
