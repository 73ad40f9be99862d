"""What users of other lock libraries run into, tried on each of them and on Backstay by the same steps."""
