"""Mask R-CNN with a branch for keypoints (section 5.3, Table 6): configuration, targets, model and decoding."""
