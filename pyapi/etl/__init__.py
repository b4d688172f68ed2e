"""What a data record moves: its source, its target and how, as pure values."""
