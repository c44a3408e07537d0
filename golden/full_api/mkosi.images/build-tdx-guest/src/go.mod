module tdxvm/guest

go 1.24.0
