// The page of a log: it follows the end, loads older lines when they are scrolled to, and stays small.
(function () {
  'use strict'

  var box = document.querySelector('.logbox')
  if (!box) return
  var log = document.getElementById('log')
  var follow = document.getElementById('follow')
  var wrap = document.getElementById('wrap')
  var more = box.querySelector('.more')
  var state = box.querySelector('.state')
  var empty = box.querySelector('.empty')

  var most = 3000 // lines in the page: what is beyond leaves it at the other end
  var waiting = 0 // lines below that the reader has not seen

  // Times of this computer, in the place of UTC.
  var zone = (Intl.DateTimeFormat().resolvedOptions().timeZone || '').replace(/_/g, ' ')
  document.querySelector('.filter').addEventListener('submit', function () {
    var at = new Date(document.getElementById('at').value) // clocks change twice a year
    document.getElementById('offset').value = String((isNaN(at) ? new Date() : at).getTimezoneOffset())
  })
  if (zone) document.querySelectorAll('.zone').forEach(function (e) { e.textContent = zone })

  function two(n, width) { return String(n).padStart(width || 2, '0') }

  function localise(part) {
    part.querySelectorAll('time').forEach(function (e) {
      var t = new Date(e.getAttribute('datetime'))
      e.textContent = two(t.getHours()) + ':' + two(t.getMinutes()) + ':' + two(t.getSeconds()) + '.' + two(t.getMilliseconds(), 3)
      e.title = t.toLocaleString()
    })
  }

  var days = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' })

  // The moment at which a line's day begins, as a number; nothing for what is no line.
  function dayOf(line) {
    var time = line && line.querySelector('time')
    return time ? new Date(time.getAttribute('datetime')).setHours(0, 0, 0, 0) : null
  }

  // A line says its day where that begins, by this computer's clock.
  function markDays(line) {
    var before = line && dayOf(line.previousElementSibling)
    for (; line; line = line.nextElementSibling) {
      var day = dayOf(line)
      if (day === null) continue
      var shown = line.querySelector('.day')
      if (day === before) {
        if (shown) shown.remove()
      } else {
        if (!shown) {
          shown = document.createElement('span')
          shown.className = 'day'
          line.prepend(shown)
        }
        shown.textContent = days.format(day).replace(',', '')
      }
      before = day
    }
  }

  function linesIn(html) {
    var holder = document.createElement('template')
    holder.innerHTML = html
    localise(holder.content)
    return holder.content
  }

  localise(log)
  markDays(log.firstElementChild)

  // Wrapping is remembered.
  function setWrap(on) {
    wrap.checked = on
    log.classList.toggle('wrapped', on)
  }
  var remembered = null
  try { remembered = localStorage.getItem('log.wrap') } catch { /* the browser keeps nothing for this site */ }
  setWrap(remembered !== 'no')
  wrap.addEventListener('change', function () {
    try { localStorage.setItem('log.wrap', wrap.checked ? 'yes' : 'no') } catch { /* then it is forgotten */ }
    setWrap(wrap.checked)
    if (follow.checked) toEnd()
  })

  function atEnd() { return log.scrollHeight - log.clientHeight - log.scrollTop < 30 }
  function toEnd() { log.scrollTop = log.scrollHeight }

  function showWaiting() {
    more.hidden = waiting === 0
    more.textContent = waiting + (waiting === 1 ? ' new line' : ' new lines')
  }

  function setFollow(on) {
    follow.checked = on
    if (on) {
      waiting = 0
      showWaiting()
      toEnd()
    }
  }
  // Lines that were only counted have to be loaded.
  function goOn() {
    if (waiting > most) location.href = location.pathname + filterOnly()
    else setFollow(true)
  }
  follow.addEventListener('change', function () { if (follow.checked) goOn() })
  more.addEventListener('click', goOn)

  // The address with the filter, but without a place in the log.
  function filterOnly() {
    var query = new URLSearchParams(location.search)
    ;['after', 'before', 'line', 'at', 'offset'].forEach(function (name) { query.delete(name) })
    return '?' + query
  }

  // Who scrolls up reads; who comes back to the end follows again. What a program scrolls is not the reader's doing.
  var touched = 0
  ;['wheel', 'touchmove', 'keydown', 'pointerdown'].forEach(function (kind) {
    log.addEventListener(kind, function () { touched = Date.now() }, { passive: true })
  })
  log.addEventListener('scroll', function () {
    if (box.dataset.stream && Date.now() - touched < 1000) {
      if (follow.checked && !atEnd()) setFollow(false)
      else if (!follow.checked && waiting <= most && atEnd()) setFollow(true)
    }
    if (log.scrollTop < 200) loadOlder()
  }, { passive: true })

  // Older lines, when their place is reached.
  var loading = false
  function loadOlder() {
    if (loading || !box.dataset.older || log.children.length >= most * 2) return
    loading = true
    state.textContent = 'Loading older lines …'
    fetch(box.dataset.older, { credentials: 'same-origin' }).then(function (answer) {
      if (!answer.ok) throw new Error(String(answer.status))
      return answer.text()
    }).then(function (html) {
      var page = new DOMParser().parseFromString(html, 'text/html')
      var lines = linesIn(page.getElementById('log').innerHTML)
      var from = log.scrollHeight - log.scrollTop
      log.prepend(lines)
      markDays(log.firstElementChild)
      log.scrollTop = log.scrollHeight - from
      var older = page.querySelector('.logbox').dataset.older
      var link = box.querySelector('.older')
      if (older && log.children.length < most * 2) {
        box.dataset.older = older
      } else {
        delete box.dataset.older
      }
      if (link) {
        if (older) link.href = older
        else link.remove()
      }
      state.textContent = ''
      loading = false
    }).catch(function () {
      state.textContent = 'Older lines could not be loaded. '
      setTimeout(function () { loading = false }, 3000)
    })
  }

  function take(html) {
    var lines = linesIn(html)
    if (empty) {
      empty.remove()
      empty = null
    }
    if (!follow.checked) {
      waiting += lines.querySelectorAll('li[id]').length
      showWaiting()
      if (waiting > most) return // they are only counted; the button leads to them
    }
    var added = lines.firstElementChild
    log.append(lines)
    markDays(added)
    if (follow.checked) {
      forgetOldest()
      toEnd()
    }
  }

  function forgetOldest() {
    if (log.children.length <= most) return
    while (log.children.length > most) log.firstElementChild.remove()
    var older = new URLSearchParams(filterOnly())
    older.set('before', log.querySelector('li[id]').id.slice(1))
    box.dataset.older = location.pathname + '?' + older
  }

  // New lines, as they come. A browser whose connection is cut connects again by itself, and says where it was; after an
  // answer that is an error it does not.
  var last = null
  function listen() {
    var address = new URL(box.dataset.stream, location.href)
    if (last) address.searchParams.set('after', last)
    var source = new EventSource(address)
    source.addEventListener('lines', function (event) {
      last = event.lastEventId
      take(event.data)
    })
    source.onopen = function () { state.textContent = 'Live' }
    source.onerror = function () {
      state.textContent = 'Connecting again …'
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000)
    }
    window.addEventListener('pagehide', function () { source.close() })
  }
  if (box.dataset.stream) {
    setFollow(!log.querySelector('.marked') && !new URLSearchParams(location.search).get('at'))
    listen()
  }

  // A link to a line is copied as well as followed.
  log.addEventListener('click', function (event) {
    var link = event.target.closest('a.at')
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return
    if (!navigator.clipboard || !window.isSecureContext) return
    event.preventDefault()
    navigator.clipboard.writeText(link.href).then(function () {
      state.textContent = 'The link to the line is copied.'
      document.getElementById('said').textContent = state.textContent
    }, function () { location.href = link.href })
    log.querySelectorAll('.marked').forEach(function (e) { e.classList.remove('marked') })
    link.closest('li').classList.add('marked')
  })

  var marked = log.querySelector('.marked')
  if (marked) marked.scrollIntoView({ block: 'center' })
  else if (!box.dataset.stream && new URLSearchParams(location.search).has('before')) toEnd()
})()
