"""What tests stand on and no test is: pretend hosts, real servers of their own, operators of a lab."""
