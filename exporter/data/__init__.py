"""Images and labels, as npz files, CIFAR's binary files, folders of images or the user's own function."""
