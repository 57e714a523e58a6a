"""How answers combine: combining algorithms over decisions of several decision points."""
