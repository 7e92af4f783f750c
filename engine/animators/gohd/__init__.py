"""The learned animator after GoHD: latent navigation that refines a warped portrait."""
