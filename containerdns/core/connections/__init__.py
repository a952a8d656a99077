"""How connections and descriptors are shared out."""
