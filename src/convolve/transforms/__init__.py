"""What can be done to images, one file each: a frozen value that draws its random choices and applies them."""
