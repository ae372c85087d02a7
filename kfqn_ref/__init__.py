"""Kronecker-factored quasi-Newton methods: a NumPy reference, a torch optimizer, and the proof that they agree."""
