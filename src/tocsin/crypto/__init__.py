"""Signatures of deliveries, sealing of stored secrets, and tokens."""
