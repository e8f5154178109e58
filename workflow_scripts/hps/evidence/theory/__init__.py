"""The paper's theorems where they can be computed: linear rewards with a known parameter."""
