package secrets

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

func (s *server) status(http.ResponseWriter, *http.Request) (any, *refusal) {
	answer := statusAnswer{Version: protocolVersion, State: s.state(), Token: s.conf.TokenSHA256 != "", Secrets: []secretStatus{}}
	for _, each := range s.store.rules {
		answer.Secrets = append(answer.Secrets, secretStatus{
			Name: each.Name, Kind: each.Schema.Kind, Required: each.Required, Received: s.store.received(each.Name)})
	}
	return answer, nil
}

func (s *server) state() string {
	if len(s.store.missing()) == 0 {
		return stateComplete
	}
	return stateWaiting
}

func (s *server) quote(_ http.ResponseWriter, request *http.Request) (any, *refusal) {
	nonce, err := hex.DecodeString(request.URL.Query().Get("nonce"))
	if err != nil || len(nonce) != nonceBytes {
		return nil, &refusal{status: http.StatusBadRequest, code: "nonce", message: "nonce must be 64 hexadecimal digits"}
	}
	if s.issuer == nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, code: "no_quote", message: "this image issues no quotes: its recipe has no quote service"}
	}
	ctx, cancel := context.WithTimeout(request.Context(), quoteTimeout)
	defer cancel()
	data := s.identity.reportData([nonceBytes]byte(nonce))
	issued, err := s.issuer.Issue(ctx, data)
	if err != nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, code: "no_quote", message: err.Error()}
	}
	answer := quoteAnswer{
		Version: protocolVersion, Provider: issued.Provider,
		Quote: base64.StdEncoding.EncodeToString(issued.Quote), RuntimeData: base64.StdEncoding.EncodeToString(issued.RuntimeData),
		Nonce: hex.EncodeToString(nonce), ReportData: hex.EncodeToString(data[:]),
	}
	if s.identity.tls {
		answer.Certificate, answer.SPKI = s.identity.pem, hex.EncodeToString(s.identity.spki[:])
	}
	return answer, nil
}

func (s *server) post(response http.ResponseWriter, request *http.Request) (any, *refusal) {
	media, parameters, err := mime.ParseMediaType(request.Header.Get("Content-Type"))
	if err != nil || media != "application/json" || !strings.EqualFold(parameters["charset"], "utf-8") && parameters["charset"] != "" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, code: "content_type", message: "the body must be application/json in UTF-8"}
	}
	if refused := s.authorise(request); refused != nil {
		return nil, refused
	}
	body, refused := s.readBody(response, request)
	if refused != nil {
		return nil, refused
	}
	defer clear(body)
	entries, err := parseBody(body)
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, code: "json", message: "the body " + err.Error()}
	}
	result, err := s.store.accept(entries, s.conf.TokenSHA256 != "")
	if errors.Is(err, errSpent) {
		return nil, refuseSpent()
	}
	if err != nil {
		if errors.Is(err, errBroken) {
			s.complete(err)
		}
		s.log.Error("secrets could not be written", "why", err)
		return nil, &refusal{status: http.StatusInternalServerError, code: "write", message: "the secrets could not be written; the machine's journal says why"}
	}
	if len(result.faults) > 0 {
		return nil, refusePost(result.faults)
	}
	missing := s.store.missing()
	answer := acceptedAnswer{Version: protocolVersion, Accepted: result.accepted, Missing: append([]string{}, missing...), State: stateWaiting}
	if len(missing) == 0 {
		answer.State = stateComplete
	}
	return answer, nil
}

// authorise compares digests, in a time that does not depend on where they differ.
func (s *server) authorise(request *http.Request) *refusal {
	if s.conf.TokenSHA256 == "" {
		return nil
	}
	token, isBearer := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	wanted, err := hex.DecodeString(s.conf.TokenSHA256)
	given := sha256.Sum256([]byte(token))
	if err != nil || !isBearer || subtle.ConstantTimeCompare(given[:], wanted) != 1 {
		return &refusal{status: http.StatusUnauthorized, code: "token", message: "the one-time token is missing or wrong",
			header: http.Header{"WWW-Authenticate": {"Bearer"}}}
	}
	if s.store.tokenSpent() {
		return refuseSpent()
	}
	return nil
}

func refuseSpent() *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "token", message: errSpent.Error(),
		header: http.Header{"WWW-Authenticate": {"Bearer"}}}
}

func (s *server) readBody(response http.ResponseWriter, request *http.Request) ([]byte, *refusal) {
	limit := int64(s.conf.MaxBodyBytes)
	tooLong := &refusal{status: http.StatusRequestEntityTooLarge, code: "size", message: "the body has more than " + strconv.FormatInt(limit, 10) + " bytes"}
	if request.ContentLength > limit {
		return nil, tooLong
	}
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, limit))
	var exceeded *http.MaxBytesError
	if errors.As(err, &exceeded) {
		return nil, tooLong
	}
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, code: "request", message: "the body did not come in full"}
	}
	return body, nil
}

func refusePost(faults []Fault) *refusal {
	for _, each := range faults {
		if each.Rule == "already" {
			return &refusal{status: http.StatusConflict, code: "already", message: "secrets have come already; nothing of this post was taken", faults: faults}
		}
	}
	return &refusal{status: http.StatusUnprocessableEntity, code: "invalid", message: "secrets do not fit the recipe; nothing of this post was taken", faults: faults}
}

// summary is the refusal in one line of the journal. Faults name no values, and names only of the recipe.
func (r *refusal) summary() string {
	if len(r.faults) == 0 {
		return r.message
	}
	return describe(r.faults)
}

func describe(faults []Fault) string {
	var parts []string
	for _, each := range faults {
		part := each.Message
		if each.Secret != "" {
			part = each.Secret + " " + each.Message
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
