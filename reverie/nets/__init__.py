"""Networks: encoders, decoders, heads, recurrent cores and the RSSM."""
