"""How close fits come to the best ELBO that their family can reach, on real posteriors."""
