// What the pages need beyond htmx: buttons that copy, and care for what the reader is doing.
(function () {
  'use strict'

  document.documentElement.classList.add('js')

  // A page that answered a form becomes one that can be asked for: Reload and Back would send the form again.
  history.replaceState(history.state, '', location.pathname === '/api/request_vm' ? '/' : undefined)

  document.addEventListener('click', function (event) {
    var button = event.target.closest('[data-copy]')
    if (!button) return
    copy(button.dataset.copy).then(function () { say(button, 'Copied') }, function () { say(button, 'Please select and copy it') })
  })

  function say(button, words) {
    if (!button.dataset.words) {
      button.dataset.words = button.textContent
      button.dataset.label = button.getAttribute('aria-label') || button.textContent
    }
    button.textContent = words
    button.setAttribute('aria-label', words)
    document.getElementById('said').textContent = words
    clearTimeout(button.timer)
    button.timer = setTimeout(function () {
      button.textContent = button.dataset.words
      button.setAttribute('aria-label', button.dataset.label)
      document.getElementById('said').textContent = ''
    }, 2500)
  }

  // Browsers offer the clipboard only over https, and may refuse it; the old way works everywhere.
  function copy(text) {
    if (!navigator.clipboard || !window.isSecureContext) return copyOldWay(text)
    return navigator.clipboard.writeText(text).catch(function () { return copyOldWay(text) })
  }

  function copyOldWay(text) {
    var before = document.activeElement
    var area = document.createElement('textarea')
    area.value = text
    area.className = 'hidden'
    document.body.appendChild(area)
    area.select()
    var ok = document.execCommand('copy')
    area.remove()
    if (before) before.focus()
    return ok ? Promise.resolve() : Promise.reject(new Error('copy'))
  }

  // A fragment that says what the page says already stays out: whoever types, reads or selects there keeps their place.
  function versionIn(element) {
    var part = element && element.querySelector(':scope > [data-version]')
    return part ? part.dataset.version : null
  }

  function parsed(html) { return new DOMParser().parseFromString(html, 'text/html') }

  document.addEventListener('htmx:sseBeforeMessage', function (event) {
    var shown = versionIn(event.target)
    if (shown !== null && shown === versionIn(parsed(event.detail.data).body)) event.preventDefault()
  })

  document.addEventListener('htmx:beforeSwap', function (event) {
    var target = event.detail.target
    var shown = versionIn(target)
    if (shown === null || event.detail.isError) return
    var selection = window.getSelection()
    var selecting = event.detail.elt === target && !selection.isCollapsed && target.contains(selection.anchorNode)
    var same = shown === versionIn(parsed(event.detail.serverResponse).getElementById(target.id))
    if (selecting || same) event.detail.shouldSwap = false
  })
})()
