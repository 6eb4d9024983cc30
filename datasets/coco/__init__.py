"""What installs MS COCO 2014, paints its masks, writes its lists, and checks them."""

from datasets.dataset_file import get_dataset_info

COCO = get_dataset_info("coco")
