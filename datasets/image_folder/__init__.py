"""A folder of images, and labels of them in whichever format, made a data set."""
