module example.com/hello-go

go 1.23

require (
	github.com/pelletier/go-toml/v2 v2.2.4
	golang.org/x/sys v0.30.0
)
