module tdxvm/guest

go 1.24.0

require (
	github.com/google/go-configfs-tsm v0.3.3
	golang.org/x/sys v0.41.0
)

require (
	github.com/google/go-tpm v0.9.8
	go.uber.org/multierr v1.11.0 // indirect
)
