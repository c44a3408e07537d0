package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxEntries is how many secrets one post may hold.
const maxEntries = 256

// maxDepth is how deep the JSON of a post may nest.
const maxDepth = 32

// entry is one name of a post and the JSON text of its value.
type entry struct {
	name string
	raw  json.RawMessage
}

// parseBody reads {"secrets": {NAME: VALUE, …}} in order. Its errors give places and counts and nothing of the
// text, which is a secret, and which the messages of encoding/json quote.
func parseBody(data []byte) ([]entry, error) {
	if err := strictJSON(data); err != nil {
		return nil, err
	}
	var outer map[string]json.RawMessage
	if json.Unmarshal(data, &outer) != nil || len(outer) != 1 || outer["secrets"] == nil {
		return nil, errors.New(`must be one object with the only name "secrets"`)
	}
	decoder := json.NewDecoder(bytes.NewReader(outer["secrets"]))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New(`"secrets" must be an object of names and values`)
	}
	var entries []entry
	for decoder.More() {
		token, err := decoder.Token()
		name, isText := token.(string)
		var raw json.RawMessage
		if err != nil || !isText || decoder.Decode(&raw) != nil {
			return nil, errors.New(`"secrets" must be an object of names and values`)
		}
		entries = append(entries, entry{name: name, raw: raw})
	}
	if len(entries) == 0 || len(entries) > maxEntries {
		return nil, fmt.Errorf("holds %d secrets, and must hold 1 to %d", len(entries), maxEntries)
	}
	return entries, nil
}

// strictJSON refuses what encoding/json would silently repair or pass over: text that is not UTF-8, half of a
// surrogate pair, a name that is there twice, nesting without end, text behind the value.
func strictJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("is not UTF-8")
	}
	if !json.Valid(data) {
		var whole json.RawMessage
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(data, &whole), &syntax) {
			return fmt.Errorf("is not JSON (from byte %d)", syntax.Offset)
		}
		return errors.New("is not JSON")
	}
	if at := loneSurrogate(data); at >= 0 {
		return fmt.Errorf("holds half of a surrogate pair (byte %d)", at)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return walk(decoder, 0)
}

// walk reads one value of text that is known to be JSON.
func walk(decoder *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nests deeper than %d", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return errors.New("is not JSON")
	}
	opening, isDelimiter := token.(json.Delim)
	if !isDelimiter {
		return nil
	}
	names := map[string]bool{}
	for decoder.More() {
		if opening == '{' {
			token, err := decoder.Token()
			name, isText := token.(string)
			if err != nil || !isText {
				return errors.New("is not JSON")
			}
			if names[name] {
				return fmt.Errorf("has a name that is there twice (byte %d)", decoder.InputOffset())
			}
			names[name] = true
		}
		if err := walk(decoder, depth+1); err != nil {
			return err
		}
	}
	_, _ = decoder.Token() // the closing bracket, which json.Valid has seen
	return nil
}

// loneSurrogate returns the offset of an escape \uD800 to \uDFFF without its other half, or -1. A backslash of
// valid JSON is always in a string.
func loneSurrogate(data []byte) int {
	for at := 0; at < len(data); at++ {
		if data[at] != '\\' {
			continue
		}
		first := escapedUnit(data[at:])
		switch {
		case first < 0xd800 || first > 0xdfff:
			at++ // over the character behind the backslash, which may be one itself
		case first > 0xdbff:
			return at
		default:
			if second := escapedUnit(data[at+6:]); second < 0xdc00 || second > 0xdfff {
				return at
			}
			at += 11
		}
	}
	return -1
}

// escapedUnit is the UTF-16 unit of an escape such as \u00e9 at the start of text, or -1.
func escapedUnit(text []byte) int {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(unit)
}
