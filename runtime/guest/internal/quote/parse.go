package quote

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The layout is that of Intel's "TDX DCAP Quoting Library API", Appendix A.3 (quote format version 4) and A.4
// (version 5). All integers are little-endian.
const (
	headerBytes       = 48
	body10Bytes       = 584 // TD report body of TDX 1.0
	body15Bytes       = 648 // of TDX 1.5: TEE_TCB_SVN_2 and MRSERVICETD behind it
	descriptorBytes   = 6   // version 5: type and size of the body
	signatureBytes    = 64  // r and s of ECDSA P-256
	publicKeyBytes    = 64  // x and y
	qeReportBytes     = 384
	teeTDX            = 0x81
	keyECDSAP256      = 2
	typePCKChain      = 5 // certification data: PEM chain
	typeQEReport      = 6 // certification data: QE report and what certifies it
	bodyTypeTDX10     = 2
	bodyTypeTDX15     = 3
	maxQuoteBytes     = 64 << 10
	qeReportDataAt    = 320 // within the QE report
	certificationHead = 6   // type and size
)

// field is one measurement of the TD report body.
type field struct {
	name        string
	at, size    int
	only15Bytes bool
}

// fields lists the body in order; names are those that requests and answers use.
var fields = []field{
	{name: "tee_tcb_svn", at: 0, size: 16},
	{name: "mr_seam", at: 16, size: 48},
	{name: "mr_signer_seam", at: 64, size: 48},
	{name: "seam_attributes", at: 112, size: 8},
	{name: "td_attributes", at: 120, size: 8},
	{name: "xfam", at: 128, size: 8},
	{name: "mr_td", at: 136, size: 48},
	{name: "mr_config_id", at: 184, size: 48},
	{name: "mr_owner", at: 232, size: 48},
	{name: "mr_owner_config", at: 280, size: 48},
	{name: "rtmr0", at: 328, size: 48},
	{name: "rtmr1", at: 376, size: 48},
	{name: "rtmr2", at: 424, size: 48},
	{name: "rtmr3", at: 472, size: 48},
	{name: "report_data", at: 520, size: 64},
	{name: "tee_tcb_svn_2", at: 584, size: 16, only15Bytes: true},
	{name: "mr_service_td", at: 600, size: 48, only15Bytes: true},
}

// Parsed is a quote taken apart. Its slices point into the quote.
type Parsed struct {
	// Version is 4 or 5.
	Version int
	// Fields holds the TD report body by name, as it lies there.
	Fields map[string][]byte

	signed          []byte // header and body, which the attestation key signs
	signature       []byte
	attestationKey  []byte
	qeReport        []byte
	qeSignature     []byte
	qeAuthenticates []byte
	chain           []byte // PEM
}

// reader takes a quote apart from the front; after the first shortage it gives nothing any more.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(count int, what string) []byte {
	if r.err == nil && count > len(r.rest) {
		r.err = fmt.Errorf("it ends within %s: %d of %d bytes", what, len(r.rest), count)
	}
	if r.err != nil {
		return nil
	}
	taken := r.rest[:count:count]
	r.rest = r.rest[count:]
	return taken
}

func (r *reader) number(size int, what string) int {
	taken := r.take(size, what)
	switch {
	case taken == nil:
		return 0
	case size == 2:
		return int(binary.LittleEndian.Uint16(taken))
	default:
		return int(binary.LittleEndian.Uint32(taken))
	}
}

// Parse takes a TDX quote of version 4 or 5 apart. It checks the structure and no signature.
func Parse(quote []byte) (*Parsed, error) {
	if len(quote) > maxQuoteBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(quote), maxQuoteBytes)
	}
	input := &reader{rest: quote}
	header := input.take(headerBytes, "the header")
	if header == nil {
		return nil, input.err
	}
	parsed := &Parsed{Version: int(binary.LittleEndian.Uint16(header)), Fields: map[string][]byte{}}
	if key := binary.LittleEndian.Uint16(header[2:]); key != keyECDSAP256 {
		return nil, fmt.Errorf("its attestation key is of type %d, not %d (ECDSA P-256)", key, keyECDSAP256)
	}
	if tee := binary.LittleEndian.Uint32(header[4:]); tee != teeTDX {
		return nil, fmt.Errorf("its TEE type is %#x, not %#x (TDX)", tee, teeTDX)
	}
	size, err := parsed.bodySize(input)
	if err != nil {
		return nil, err
	}
	body := input.take(size, "the TD report body")
	if body == nil {
		return nil, input.err
	}
	parsed.signed = quote[:len(quote)-len(input.rest)]
	for _, each := range fields {
		if each.at+each.size <= len(body) {
			parsed.Fields[each.name] = body[each.at : each.at+each.size : each.at+each.size]
		}
	}
	return parsed, parsed.readSignatures(input)
}

// bodySize reads the descriptor of version 5; version 4 has none.
func (p *Parsed) bodySize(input *reader) (int, error) {
	switch p.Version {
	case 4:
		return body10Bytes, nil
	case 5:
		kind := input.number(2, "the descriptor of the body")
		size := input.number(4, "the descriptor of the body")
		if input.err != nil {
			return 0, input.err
		}
		if kind == bodyTypeTDX10 && size == body10Bytes || kind == bodyTypeTDX15 && size == body15Bytes {
			return size, nil
		}
		return 0, fmt.Errorf("its body has type %d and %d bytes, which is no TD report", kind, size)
	}
	return 0, fmt.Errorf("its version is %d, not 4 or 5", p.Version)
}

// readSignatures reads the signature data. What lies behind it, such as padding, is passed over: its length is
// in the quote.
func (p *Parsed) readSignatures(input *reader) error {
	data := &reader{rest: input.take(input.number(4, "the length of the signature data"), "the signature data")}
	if input.err != nil {
		return input.err
	}
	p.signature = data.take(signatureBytes, "the signature")
	p.attestationKey = data.take(publicKeyBytes, "the attestation key")
	if kind := data.number(2, "the certification data"); data.err == nil && kind != typeQEReport {
		return fmt.Errorf("its certification data is of type %d, not %d", kind, typeQEReport)
	}
	inner := &reader{rest: data.take(data.number(4, "the certification data"), "the certification data")}
	if data.err != nil {
		return data.err
	}
	if len(data.rest) > 0 {
		return errors.New("there is more behind the certification data")
	}
	p.qeReport = inner.take(qeReportBytes, "the QE report")
	p.qeSignature = inner.take(signatureBytes, "the signature of the QE report")
	p.qeAuthenticates = inner.take(inner.number(2, "the QE authentication data"), "the QE authentication data")
	if kind := inner.number(2, "the PCK chain"); inner.err == nil && kind != typePCKChain {
		return fmt.Errorf("its QE report is certified by data of type %d, not %d (a PEM chain)", kind, typePCKChain)
	}
	p.chain = inner.take(inner.number(4, "the PCK chain"), "the PCK chain")
	if inner.err == nil && len(inner.rest) > 0 {
		return errors.New("there is more behind the PCK chain")
	}
	return inner.err
}
