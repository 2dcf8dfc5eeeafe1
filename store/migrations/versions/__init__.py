"""One module a step; none is changed once it has been released."""
