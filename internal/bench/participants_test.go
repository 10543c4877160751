//go:build linux

package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// participants are people who each want a VM, some of them at the same moment.
type participants struct {
	tb     testing.TB
	url    string
	client *http.Client
	atOnce int
	made   atomic.Int64 // seats, by rush
}

// lastPerson makes every person somebody else.
var lastPerson atomic.Int64

func newParticipants(tb testing.TB, addr string, atOnce int) *participants {
	tb.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce}
	tb.Cleanup(transport.CloseIdleConnections)
	return &participants{tb: tb, url: "http://" + addr + "/api/request_vm", atOnce: atOnce,
		client: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

// person is somebody new with a fresh code.
type person struct {
	email, command string
}

// command returns a new person, and the command as the VM will get it.
func (p *participants) command() (person, string) {
	n := lastPerson.Add(1)
	command := fleet.CommandFor(fmt.Sprintf("4/0code-%d", n))
	return person{fmt.Sprintf("p%d@example.org", n), command}, command
}

func (p *participants) first() person {
	who, _ := p.command()
	return who
}

// request asks for a VM as a program does; a browser gets a redirect instead.
func (p *participants) request(who person) {
	body, err := json.Marshal(map[string]string{"email": who.email, "crd_command": who.command})
	if err != nil {
		p.tb.Error(err)
		return
	}
	resp, err := p.client.Post(p.url, "application/json", bytes.NewReader(body)) //nolint:noctx // the client has a time limit
	if err != nil {
		p.tb.Error(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.tb.Errorf("request for a VM: %s %s %v", resp.Status, text, err)
	}
}

// assign asks the store directly.
func (p *participants) assign(s *store.Store) {
	who := p.first()
	c, err := fleet.ParseCommand(who.command)
	if err != nil {
		p.tb.Error(err)
		return
	}
	_, err = s.Assign(context.Background(), store.Request{Email: who.email, Command: c, PIN: fleet.NewPIN(),
		Browser: fleet.HashToken(who.email), Actor: fleet.Actor{Kind: "participant", Address: "127.0.0.1"}})
	if err != nil {
		p.tb.Error(err)
	}
}

// rush lets all ask again and again for a while, or until the VMs run short, and
// returns how many seats a second they got.
func (p *participants) rush(sc scale, ask func(*participants)) float64 {
	p.tb.Helper()
	most := int64(max(1, sc.agents-p.atOnce))
	var asked atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for range p.atOnce {
		group.Go(func() {
			for time.Since(began) < sc.level && !p.tb.Failed() && asked.Add(1) <= most {
				ask(p)
				p.made.Add(1)
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	if p.tb.Failed() {
		p.tb.FailNow()
	}
	return float64(p.made.Load()) / took.Seconds()
}
