"""The published architectures trained on recordings with their MIDI. TensorFlow; what renders them is in `pianofarm_worker`."""
