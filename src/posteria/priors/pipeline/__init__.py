"""What posteria reads of a pipeline of diffusers: its network, its scheduler, its autoencoder and its texts."""
