package quote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tdxvm/guest/internal/fault"
)

// In an Azure TDX machine the paravisor owns the TDX interface. It serves a vTPM with two NV indices ("Guest
// attestation design", learn.microsoft.com/azure/confidential-computing): what is written to the second one
// appears in the report that the first one holds. That report binds, in the report data of a TDREPORT, the
// digest of a JSON text with the data and the vTPM's keys. The host turns a TDREPORT into a quote.
const (
	nvReport   = 0x01400001
	nvUserData = 0x01400002

	hclSignature  = 0x414c4348 // "HCLA", little-endian
	hclHeader     = 32
	hclReport     = 1184 // room for the hardware's report: a TDREPORT is shorter
	hclDataHeader = 20   // size, version, report type, hash type, size of the JSON text
	hclTypeTDX    = 4

	tdReportBytes  = 1024
	tdReportDataAt = 128 // REPORTMACSTRUCT.REPORTDATA

	quoteService     = "http://169.254.169.254/acc/tdquote"
	quoteServiceMax  = 64 << 10
	reportPatience   = 10 * time.Second
	reportPollPeriod = 250 * time.Millisecond
)

// nvIndices is what this needs of a TPM.
type nvIndices interface {
	// Write makes the index where it is missing, and writes all of it.
	Write(index uint32, data []byte) error
	Read(index uint32) ([]byte, error)
	Close() error
}

// azureIssuer was written after Microsoft's documentation and held against a made-up vTPM and service; nobody
// has run it in an Azure machine yet.
type azureIssuer struct {
	open   func() (nvIndices, error)
	client *http.Client
	url    string
	wait   time.Duration
}

func newAzureIssuer() *azureIssuer {
	return &azureIssuer{open: openTPM, client: &http.Client{Timeout: 20 * time.Second}, url: quoteService, wait: reportPatience}
}

func (a *azureIssuer) Issue(ctx context.Context, data [ReportDataBytes]byte) (Issued, error) {
	report, err := a.report(ctx, data)
	if err != nil {
		return Issued{}, fault.Wrap(err, "run the image in an Azure confidential machine of a TDX size", "the vTPM gave no report")
	}
	quote, err := a.convert(ctx, report.tdReport)
	if err != nil {
		return Issued{}, fault.Wrap(err, "", "the host gave no quote")
	}
	parsed, err := Parse(quote)
	if err != nil {
		return Issued{}, fault.Wrap(err, "", "the host gave something that is no TDX quote")
	}
	if !bytes.Equal(parsed.Fields["report_data"], report.reportData()) {
		return Issued{}, fault.Refuse("", "the host gave a quote for another report")
	}
	return Issued{Provider: ProviderAzure, Quote: quote, RuntimeData: report.runtimeData}, nil
}

// report writes the data and reads the report until it holds them: the paravisor makes it anew on a read, and
// not always on the first one.
func (a *azureIssuer) report(ctx context.Context, data [ReportDataBytes]byte) (hclReportParts, error) {
	tpm, err := a.open()
	if err != nil {
		return hclReportParts{}, err
	}
	defer tpm.Close()
	if err := tpm.Write(nvUserData, data[:]); err != nil {
		return hclReportParts{}, err
	}
	for deadline := time.Now().Add(a.wait); ; {
		raw, err := tpm.Read(nvReport)
		if err != nil {
			return hclReportParts{}, err
		}
		report, err := parseHCL(raw)
		if err != nil {
			return hclReportParts{}, err
		}
		if report.holds(data) {
			return report, nil
		}
		if time.Now().After(deadline) {
			return hclReportParts{}, errors.New("its report does not take up the data that was written")
		}
		select {
		case <-ctx.Done():
			return hclReportParts{}, ctx.Err()
		case <-time.After(reportPollPeriod):
		}
	}
}

// hclReportParts is what NV index 0x01400001 holds.
type hclReportParts struct {
	tdReport    []byte
	runtimeData []byte
}

func parseHCL(raw []byte) (hclReportParts, error) {
	const textAt = hclHeader + hclReport + hclDataHeader
	if len(raw) < textAt || binary.LittleEndian.Uint32(raw) != hclSignature {
		return hclReportParts{}, errors.New("NV index 0x01400001 holds no report of Azure's paravisor")
	}
	claims := raw[hclHeader+hclReport:]
	if kind := binary.LittleEndian.Uint32(claims[8:]); kind != hclTypeTDX {
		return hclReportParts{}, fmt.Errorf("the report is of type %d, not %d (TDX)", kind, hclTypeTDX)
	}
	size := binary.LittleEndian.Uint32(claims[16:])
	if uint64(size) > uint64(len(raw)-textAt) {
		return hclReportParts{}, fmt.Errorf("the report says that it has %d bytes of claims, and has %d", size, len(raw)-textAt)
	}
	parts := hclReportParts{tdReport: raw[hclHeader : hclHeader+tdReportBytes], runtimeData: raw[textAt : textAt+int(size)]}
	if !bytes.Equal(parts.tdReport[tdReportDataAt:tdReportDataAt+64], parts.reportData()) {
		return hclReportParts{}, errors.New("the report does not bind its claims")
	}
	return parts, nil
}

// reportData is that of the TDREPORT and of the quote: the SHA-256 of the claims, and zeros.
func (h *hclReportParts) reportData() []byte {
	sum := sha256.Sum256(h.runtimeData)
	return append(sum[:], make([]byte, sha512.Size-sha256.Size)...)
}

// holds says whether the claims have the data as "user-data", in hexadecimal.
func (h *hclReportParts) holds(data [ReportDataBytes]byte) bool {
	var claims struct {
		UserData string `json:"user-data"`
	}
	return json.Unmarshal(h.runtimeData, &claims) == nil && strings.EqualFold(claims.UserData, hex.EncodeToString(data[:]))
}

// convert asks the service of the host for the quote of a TDREPORT.
func (a *azureIssuer) convert(ctx context.Context, tdReport []byte) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(tdReport)})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its quote service answers %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, quoteServiceMax))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Quote string `json:"quote"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, errors.New("the answer of its quote service is not JSON")
	}
	quote, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(answer.Quote, "="))
	if err != nil {
		return nil, errors.New("the quote in the answer of its quote service is not base64url")
	}
	return quote, nil
}
