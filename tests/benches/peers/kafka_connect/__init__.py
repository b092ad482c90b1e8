"""What the executable `kafka-connect` consists of."""
