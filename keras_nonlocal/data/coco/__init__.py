"""Images with boxes, masks and keypoints as COCO annotates them."""
