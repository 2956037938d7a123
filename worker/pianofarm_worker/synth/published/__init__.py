"""The published DDSP-Piano models: dafx22, maestro-v2 and ENSTDkCl. Their synthesizers are one folder up."""
