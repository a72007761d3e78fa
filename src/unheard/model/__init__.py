"""The network of Tu et al. 2019 and its layers."""
