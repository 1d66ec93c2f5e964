"""Train the course's image generators as projected GANs: `python -m utils.recipes.projected_gan cifar10`.

An interrupted run goes on where it was when called again.
"""
