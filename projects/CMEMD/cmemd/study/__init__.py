"""What each part of the method does: experiments that anybody can repeat."""
