"""What is to be sent and when: cards, arrival times, prompts, sweeps. Pure: no clock, chance is an argument."""
