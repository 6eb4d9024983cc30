"""mini-VOC: procedural scenes of VOC's 20 classes in the on-disk layout of VOC 2012 plus SBD."""
