package config

import (
	"errors"
)

// Sources of quotes.
const (
	// QuoteConfigfs is the interface of the kernel, configfs-tsm.
	QuoteConfigfs = "configfs"
	// QuoteAzure goes through the vTPM of Azure's paravisor and the quoting service of the host.
	QuoteAzure = "azure_vtpm"
	// QuoteFake makes quotes that prove nothing, for tests.
	QuoteFake = "fake"
)

// Quote says where TDX quotes come from, and bounds the service that hands them out.
type Quote struct {
	// Source is configfs, azure_vtpm or, in test images only, fake.
	Source string `json:"source"`
	// IdleSeconds is how long the service stays without a connection; its socket starts it again.
	IdleSeconds int `json:"idle_seconds"`
	// MaxConnections is how many clients are served at one time.
	MaxConnections int `json:"max_connections"`
}

func (q *Quote) check(testImage bool) error {
	errs := []error{
		oneOf("source", q.Source, QuoteConfigfs, QuoteAzure, QuoteFake),
		inRange("idle_seconds", q.IdleSeconds, 1, 3600),
		inRange("max_connections", q.MaxConnections, 1, 1024),
	}
	if q.Source == QuoteFake && !testImage {
		errs = append(errs, errors.New(`source "fake" makes quotes that prove nothing: it needs an image that is marked as a test ("test_image":true)`))
	}
	return errors.Join(errs...)
}
