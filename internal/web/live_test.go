package web

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lablink/internal/wait"
)

func TestCaster(t *testing.T) {
	t.Parallel()
	setup := func() (*caster, *wait.Feed, *atomic.Int64) {
		var rendered atomic.Int64
		feed := wait.NewFeed()
		c := newCaster(feed, 250*time.Millisecond, time.Minute, func(context.Context) ([]liveEvent, error) {
			return []liveEvent{{"count", strconv.FormatInt(rendered.Add(1), 10)}}, nil
		})
		return c, feed, &rendered
	}

	t.Run("renders once for all who watch, however much changes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, feed, rendered := setup()
			var all []<-chan []liveEvent
			for range 150 {
				events, unwatch := c.watch()
				t.Cleanup(unwatch)
				all = append(all, events)
			}
			synctest.Wait()
			for range 1000 {
				feed.Publish("lab-1")
			}
			<-time.After(300 * time.Millisecond)
			synctest.Wait()
			if n := rendered.Load(); n != 2 {
				t.Errorf("rendered %d times, want 2: at first, and once for the changes", n)
			}
			for _, events := range all {
				if got := <-events; got[0].data != "2" {
					t.Fatalf("a watcher got %v, not the newest", got)
				}
			}
		})
	})

	t.Run("shows a late watcher the last rendering, and ends with the last watcher", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, feed, rendered := setup()
			_, first := c.watch()
			synctest.Wait()
			events, second := c.watch()
			if got := <-events; got[0].data != "1" {
				t.Errorf("got %v", got)
			}
			first()
			second()
			synctest.Wait()
			feed.Publish("lab-1")
			<-time.After(time.Hour)
			if n := rendered.Load(); n != 1 {
				t.Errorf("rendered %d times though nobody watches", n)
			}
			events, third := c.watch()
			defer third()
			if got := <-events; got[0].data != "2" {
				t.Errorf("got %v, want a fresh rendering", got)
			}
		})
	})

	t.Run("goes on after a failure", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c, feed, rendered := setup()
			render, fail := c.render, errors.New("no database")
			var failures atomic.Int64
			c.failed = func(error) { failures.Add(1) }
			c.render = func(ctx context.Context) ([]liveEvent, error) {
				if rendered.Load() == 0 {
					rendered.Add(1)
					return nil, fail
				}
				return render(ctx)
			}
			events, unwatch := c.watch()
			defer unwatch()
			synctest.Wait()
			feed.PublishAll()
			if got := <-events; got[0].data != "2" || failures.Load() != 1 {
				t.Errorf("got %v after %d failures", got, failures.Load())
			}
		})
	})
}
