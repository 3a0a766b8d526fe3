"""Registered experiments: `exp_factory.get_exp_config(name)`, `keras-nonlocal train --experiment=name`."""

from keras_nonlocal.tfm.experiments import charades, coco, keypoints, kinetics, paper, trainers

NAMES = (*kinetics.NAMES, *coco.NAMES, *keypoints.NAMES)
__all__ = ["NAMES", "charades", "coco", "keypoints", "kinetics", "paper", "trainers"]
