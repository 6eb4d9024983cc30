"""mini-VOC: procedural scenes, on disk as VOC 2012 plus SBD are, or as people have images."""
