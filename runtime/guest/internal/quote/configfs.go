package quote

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"tdxvm/guest/internal/fault"
)

// configfsIssuer asks the kernel (Documentation/ABI/testing/configfs-tsm-report).
type configfsIssuer struct {
	client configfsi.Client // nil: that of the running kernel
}

// Issue blocks in the kernel, which gives up by itself; the context cannot cut that short.
func (c configfsIssuer) Issue(_ context.Context, data [ReportDataBytes]byte) (Issued, error) {
	client := c.client
	if client == nil {
		running, err := linuxtsm.MakeClient()
		if errors.Is(err, fs.ErrNotExist) {
			return Issued{}, fault.Wrap(err, "mount configfs, and use a kernel with TSM_REPORTS and TDX_GUEST_DRIVER on a TDX machine",
				"this machine has no interface for quotes")
		}
		if err != nil {
			return Issued{}, fault.Wrap(err, "", "cannot use the interface for quotes")
		}
		client = running
	}
	response, err := report.Get(client, &report.Request{InBlob: data[:]})
	if err != nil {
		return Issued{}, fault.Wrap(err, "look at the host's quote generation service (QGS)", "the kernel gave no quote")
	}
	provider := strings.TrimSpace(string(response.Provider))
	if provider != ProviderTDX {
		return Issued{}, fault.Refuse("run the image in a TDX machine", "the kernel's provider of reports is %q, not %q", provider, ProviderTDX)
	}
	parsed, err := Parse(response.OutBlob)
	if err != nil {
		return Issued{}, fault.Wrap(err, "", "the kernel gave something that is no TDX quote")
	}
	if !bytes.Equal(parsed.Fields["report_data"], data[:]) {
		return Issued{}, fault.Refuse("", "the kernel gave a quote for other report data")
	}
	return Issued{Provider: ProviderTDX, Quote: response.OutBlob}, nil
}
