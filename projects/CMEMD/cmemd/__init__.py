"""CM-EMD: visible-thermal person re-identification with fast-reid."""
