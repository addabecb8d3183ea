"""The Applivery dialect, under `/v1/organizations`."""
