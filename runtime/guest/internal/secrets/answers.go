package secrets

import "net/http"

// refusal is an answer other than 200.
type refusal struct {
	status  int
	code    string
	message string
	faults  []Fault
	header  http.Header
}

type errorAnswer struct {
	Version int       `json:"version"`
	Error   errorBody `json:"error"`
}

type errorBody struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Faults  []Fault `json:"faults,omitempty"`
}

type secretStatus struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Required bool   `json:"required"`
	Received bool   `json:"received"`
}

type statusAnswer struct {
	Version int            `json:"version"`
	State   string         `json:"state"`
	Token   bool           `json:"token"`
	Secrets []secretStatus `json:"secrets"`
}

type acceptedAnswer struct {
	Version  int      `json:"version"`
	Accepted []string `json:"accepted"`
	Missing  []string `json:"missing"`
	State    string   `json:"state"`
}

type quoteAnswer struct {
	Version     int    `json:"version"`
	Provider    string `json:"provider"`
	Quote       string `json:"quote"`
	RuntimeData string `json:"runtime_data"`
	Nonce       string `json:"nonce"`
	ReportData  string `json:"report_data"`
	Certificate string `json:"certificate"`
	SPKI        string `json:"spki_sha256"`
}
