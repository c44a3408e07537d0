// Package quote gets TDX quotes for the machine, hands them out over a unix socket, and checks quotes as far as
// the cryptography of the standard library goes.
package quote

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// ReportDataBytes is the length of the data that a quote carries for its requester.
const ReportDataBytes = 64

// Providers, as answers name them.
const (
	ProviderTDX   = "tdx_guest" // the name that the kernel gives in configfs
	ProviderAzure = "azure_vtpm"
	ProviderFake  = "fake"
)

// Issued is a quote.
type Issued struct {
	// Provider says how the quote carries the report data; see [ProviderTDX] and [ProviderAzure].
	Provider string
	// Quote is in the format of Intel's DCAP quote library (header, TD report body, signature data).
	Quote []byte
	// RuntimeData is empty, save with ProviderAzure: there the report data of the quote is the SHA-256 of it,
	// and it holds what was asked for as "user-data".
	RuntimeData []byte
}

// Issuer makes quotes. It is safe for use by several goroutines.
type Issuer interface {
	Issue(ctx context.Context, data [ReportDataBytes]byte) (Issued, error)
}

// New returns the issuer that the configuration asks for, or nil where it asks for none.
func New(conf *config.Config, log *slog.Logger) (Issuer, error) {
	if conf.Quote == nil {
		return nil, nil
	}
	switch conf.Quote.Source {
	case config.QuoteConfigfs:
		return &oneAtATime{issuer: configfsIssuer{}}, nil
	case config.QuoteAzure:
		return &oneAtATime{issuer: newAzureIssuer()}, nil
	case config.QuoteFake:
		if !conf.TestImage { // the configuration has refused it already; this does not depend on that
			return nil, fault.Refuse("mark the image as a test", "fake quotes are for test images only")
		}
		log.Warn("THIS IMAGE ISSUES FAKE QUOTES: it is a test image, and proves nothing to anybody")
		return newFakeIssuer()
	}
	return nil, fmt.Errorf("unknown source of quotes %q", conf.Quote.Source)
}

// oneAtATime lets one request through at a time: the NV index of Azure's vTPM is shared, and the host's quoting
// service is asked no faster than it answers.
type oneAtATime struct {
	lock   sync.Mutex
	issuer Issuer
}

func (o *oneAtATime) Issue(ctx context.Context, data [ReportDataBytes]byte) (Issued, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if err := ctx.Err(); err != nil {
		return Issued{}, fmt.Errorf("waited too long for other requests: %w", err)
	}
	return o.issuer.Issue(ctx, data)
}
