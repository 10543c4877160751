package httpx

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"lablink/internal/fleet"
)

// ReadJSON reads a JSON body into v. The body's size is limited by Protect.
// Fields that v does not know are ignored: clients may be newer than we are.
func ReadJSON(r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return fleet.Errorf(fleet.UnsupportedMedia, "this route takes JSON: send Content-Type: application/json")
	}
	dec := json.NewDecoder(r.Body)
	if err := dec.Decode(v); err != nil {
		return bodyError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fleet.Errorf(fleet.Invalid, "there is something after the JSON value")
	}
	return nil
}

// Decompress lets a body be read that is compressed as Content-Encoding says. It
// is limited to as many bytes when it is not compressed any more.
func Decompress(r *http.Request, most int64) error {
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return nil
	case "gzip":
	default:
		return fleet.Errorf(fleet.UnsupportedMedia, "the body may be compressed by gzip, or not at all")
	}
	zip, err := gzip.NewReader(r.Body)
	if err != nil {
		return bodyError(err)
	}
	r.Body = http.MaxBytesReader(nil, zip, most)
	return nil
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &large):
		return fleet.Errorf(fleet.TooLarge, "the body is larger than the limit of %d bytes", large.Limit)
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return fleet.Errorf(fleet.Invalid, "the body must be a JSON object, not %s", wrongType.Value)
	case errors.As(err, &wrongType):
		return fleet.FieldErrorf(wrongType.Field, "%s must be %s, not %s", wrongType.Field, jsonType(wrongType.Type), wrongType.Value)
	case errors.As(err, &syntax):
		return fleet.Errorf(fleet.Invalid, "the body is not valid JSON: %s at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fleet.Errorf(fleet.Invalid, "the body is empty or ends too early: send a JSON object")
	default:
		return &fleet.Error{Kind: fleet.Invalid, Message: "the body could not be read", Err: err}
	}
}

func jsonType(t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return "a time in RFC 3339, or Unix milliseconds"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	default:
		return "a " + t.String()
	}
}

// ReadForm parses the form of a request, urlencoded or multipart, within the
// limit that Protect put on the body.
func ReadForm(r *http.Request) error {
	// By itself ParseMultipartForm drops the error of a form that is not multipart.
	err := r.ParseForm()
	if err == nil {
		err = r.ParseMultipartForm(1 << 20) //nolint:gosec // Protect has put a limit on the body
	}
	if errors.Is(err, http.ErrNotMultipart) {
		err = nil
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fleet.Errorf(fleet.TooLarge, "the form is larger than the limit of %d bytes", large.Limit)
	case err != nil:
		return &fleet.Error{Kind: fleet.Invalid, Message: "the form could not be read", Err: err}
	}
	if !areText(r.PostForm) {
		return fleet.Errorf(fleet.Invalid, "The form holds characters that are not text.")
	}
	return nil
}

func areText(values url.Values) bool {
	for _, vs := range values {
		for _, v := range vs {
			if !isText(v) {
				return false
			}
		}
	}
	return true
}

// isText reports whether PostgreSQL takes s for text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// WantsJSON reports whether the caller asked for JSON rather than a page.
func WantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// WriteJSON writes v as the answer.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that has gone gets no answer; net/http notices by itself.
	_, _ = w.Write(append(body, '\n'))
	return nil
}

// JSONError is the ErrorWriter of the JSON endpoints. The body has the shape of
// wire.Error.
func JSONError(w http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	// Marshalling strings cannot fail.
	_ = WriteJSON(w, status, struct {
		Error     string `json:"error"`
		Field     string `json:"field,omitempty"`
		RequestID string `json:"request_id,omitempty"`
	}{e.Message, e.Field, RequestID(r.Context())})
}
