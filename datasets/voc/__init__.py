"""What installs Pascal VOC with SBD, writes its lists, and checks them."""

from datasets.dataset_file import get_dataset_info

PASCAL_VOC = get_dataset_info("pascal_voc")
