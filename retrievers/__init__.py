"""Knowledge: passages in Qdrant, and what finds them."""
