"""What a rendered file shows when it is laid beside its MIDI: measurements, a spectrogram, one page. Nothing here renders music."""
