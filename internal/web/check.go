package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// checkView is what a participant reads while typing.
type checkView struct {
	Problem string // it will be refused
	Warning string // it may be wrong
	Good    bool
}

// postCheckCommand looks at a command while it is being typed. It changes
// nothing.
func (w *Web) postCheckCommand(rw http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	if retry, ok := w.checks.Allow(httpx.ClientAddr(r)); !ok {
		setRetryAfter(rw, retry)
		rw.WriteHeader(http.StatusTooManyRequests) // the page stays as it is; the real check comes when it is sent
		return nil
	}
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	view, err := w.checkCommand(r, r.PostFormValue("crd_command"))
	if err != nil {
		return err
	}
	body, err := w.render("home", "check", view)
	if err != nil {
		return err
	}
	send(rw, http.StatusOK, body)
	return nil
}

func (w *Web) checkCommand(r *http.Request, text string) (checkView, error) {
	if strings.TrimSpace(text) == "" {
		return checkView{}, nil // nothing typed is nothing wrong yet
	}
	command, refusal := fleet.ParseCommand(text)
	if e := asFleetError(refusal); e != nil {
		return checkView{Problem: e.Message}, nil //nolint:nilerr // what is wrong with the command is the answer
	}
	used, err := w.store.CodeUsed(r.Context(), command.Code)
	switch {
	case refusal != nil || err != nil:
		return checkView{}, errors.Join(refusal, err)
	case used:
		return checkView{Problem: codeUsedText}, nil
	case !strings.HasPrefix(command.Code, "4/"):
		return checkView{Warning: "Google's codes start with 4/, and this one does not. Check that you copied all of it. You can still send it."}, nil
	default:
		return checkView{Good: true}, nil
	}
}

func setRetryAfter(rw http.ResponseWriter, d time.Duration) {
	if d > 0 {
		rw.Header().Set("Retry-After", strconv.Itoa(int(d.Seconds())+1))
	}
}
