"""What a target's builder would refuse, named by node and layer before it is asked."""
