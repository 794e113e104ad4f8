"""Our named, supervised conversation with one piece of equipment: what all of them share, whatever they speak."""
